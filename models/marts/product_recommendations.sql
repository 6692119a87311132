-- depends_on: {{ ref('int_data_measured') }}: refused data do not replace this table.
with

product_pairs as (

    select
        product_id,
        recommended_product_id,
        recommended_basket_count,
        copurchase_count
    from {{ ref('int_product_pairs_shortlisted') }}

),

catalogue as (

    select
        product_id,
        category_code,
        product_name
    from {{ ref('stg_products') }}

),

ranked as (

    select
        product_id,
        recommended_product_id,
        copurchase_count,
        row_number() over (
            partition by product_id
            order by
                copurchase_count desc,
                recommended_basket_count desc,
                recommended_product_id asc
        ) as recommendation_rank
    from product_pairs
    qualify recommendation_rank <= {{ var('recommendations_per_product') }}

),

named as (

    select
        ranked.product_id,
        ranked.recommendation_rank::integer as recommendation_rank,
        ranked.recommended_product_id,
        catalogue.product_name as recommended_product_name,
        catalogue.category_code as recommended_category_code,
        ranked.copurchase_count,
        'copurchase' as recommendation_source
    from ranked
    inner join catalogue
        on ranked.recommended_product_id = catalogue.product_id

)

select * from named
order by
    product_id,
    recommendation_rank
