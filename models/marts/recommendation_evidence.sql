with

recommendations as (

    select
        product_id,
        recommendation_rank,
        recommended_product_id,
        copurchase_count,
        recommendation_source
    from {{ ref('product_recommendations') }}

),

products as (

    select
        product_id,
        basket_count
    from {{ ref('products') }}

),

baskets as (

    select basket_count as total_basket_count
    from {{ ref('int_data_measured') }}

),

counted as (

    select
        recommendations.product_id,
        recommendations.recommendation_rank,
        recommendations.recommended_product_id,
        recommendations.recommendation_source,
        baskets.total_basket_count,
        product.basket_count,
        recommended_product.basket_count as recommended_basket_count,
        recommendations.copurchase_count
    from recommendations
    inner join products as product
        on recommendations.product_id = product.product_id
    inner join products as recommended_product
        on recommendations.recommended_product_id = recommended_product.product_id
    cross join baskets

),

measured as (

    select
        product_id,
        recommendation_rank,
        recommended_product_id,
        total_basket_count,
        basket_count,
        recommended_basket_count,
        copurchase_count,
        {{ evidence_measures('recommended_basket_count') }},
        case
            when recommendation_source = 'copurchase' then {{ evidence_class() }}
        end as evidence
    from counted

)

select * from measured
