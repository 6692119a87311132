with

product_pairs as (

    select
        product_key,
        recommended_product_key,
        copurchase_count
    from {{ ref('int_product_pairs_shortlisted') }}

),

products as (

    select
        product_id,
        product_key,
        basket_count
    from {{ ref('int_products_keyed') }}

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
        product.product_id,
        recommended_product.product_id as recommended_product_id,
        product_pairs.copurchase_count,
        row_number() over (
            partition by product.product_id
            order by
                product_pairs.copurchase_count desc,
                recommended_product.basket_count desc,
                recommended_product.product_id asc
        ) as recommendation_rank
    from product_pairs
    inner join products as product
        on product_pairs.product_key = product.product_key
    inner join products as recommended_product
        on product_pairs.recommended_product_key = recommended_product.product_key
    qualify recommendation_rank <= {{ recommendations_per_product() }}

),

named as (

    select
        ranked.product_id,
        ranked.recommendation_rank::integer as recommendation_rank,
        ranked.recommended_product_id,
        catalogue.product_name as recommended_product_name,
        catalogue.category_code as recommended_category_code,
        ranked.copurchase_count
    from ranked
    inner join catalogue
        on ranked.recommended_product_id = catalogue.product_id

)

select * from named
order by
    product_id,
    recommendation_rank
