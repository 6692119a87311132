-- Some products only: ranking all pairs of all products takes longer than counting them.
with

products as (

    select
        product_id,
        product_number,
        basket_count,
        is_in_catalogue
    from {{ ref('int_products_keyed') }}

),

sampled_products as (

    select
        product_id,
        product_number
    from products
    -- Other products in each run.
    order by
        hash(
            product_id
            || (select mounted_run.run from {{ source('lake', 'mounted_run') }} as mounted_run)
        ),
        product_id
    limit 10

),

directed as (

    {{ directed_pairs(ref('int_product_pairs_counted')) }}

),

-- Merchandisers have taken these pairs off the list, or moved them.
steered as (

    select
        product_id,
        recommended_product_id
    from {{ ref('int_recommendations_blocked') }}

    union

    select
        product_id,
        recommended_product_id
    from {{ ref('int_recommendations_pinned') }}

),

pins as (

    select
        product_id,
        count(*) as pin_count
    from {{ ref('int_recommendations_pinned') }}
    group by product_id

),

expected as (

    select
        sampled_products.product_id,
        other_product.product_id as recommended_product_id,
        directed.copurchase_count,
        row_number() over (
            partition by sampled_products.product_id
            order by
                directed.copurchase_count desc,
                other_product.basket_count desc,
                other_product.product_id asc
        ) as recommendation_rank
    from directed
    inner join sampled_products
        on directed.product_number = sampled_products.product_number
    inner join products as other_product
        on directed.other_product_number = other_product.product_number
    anti join steered
        on
            sampled_products.product_id = steered.product_id
            and other_product.product_id = steered.recommended_product_id
    left join pins
        on sampled_products.product_id = pins.product_id
    where
        other_product.is_in_catalogue
        and directed.copurchase_count >= {{ var('min_copurchase_count') }}
    qualify
        recommendation_rank
        <= {{ var('recommendations_per_product') }} - coalesce(pins.pin_count, 0)

),

found as (

    select
        recommendations.product_id,
        recommendations.recommended_product_id,
        recommendations.copurchase_count,
        row_number() over (
            partition by recommendations.product_id
            order by recommendations.recommendation_rank
        ) as recommendation_rank
    from {{ ref('product_recommendations') }} as recommendations
    semi join sampled_products
        on recommendations.product_id = sampled_products.product_id
    where recommendations.recommendation_source = 'copurchase'

)

{{ rows_that_differ('expected', 'found') }}
